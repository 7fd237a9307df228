"""What scripts/verify_bundles.py checks. Every check is a function that returns what it found, in words, or raises."""
