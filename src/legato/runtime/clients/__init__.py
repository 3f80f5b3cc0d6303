"""What clients ask of turns: a post, an answer, a steer, a cancel."""
