"""The report: a ranking as one page that can be read, searched, marked and printed without a network."""
