"""What a model is asked with, from what is stored and said."""
