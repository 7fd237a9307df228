"""A trained model: its files, which are data alone, and what is made of them."""
