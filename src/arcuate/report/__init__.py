"""The report of one subject, a single HTML file."""
