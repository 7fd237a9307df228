"""Ranks a folder of masks by itself, where there is no model: each mask is judged by what the others have in common.

What every mask of the folder has in common cannot be found in this way, however wrong it is.
"""
