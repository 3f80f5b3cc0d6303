"""What the server costs and what it saves, measured against the real thing. Prints tables; gates nothing."""
