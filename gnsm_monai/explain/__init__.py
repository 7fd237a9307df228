"""Why a mask looks odd: where, and in words."""
