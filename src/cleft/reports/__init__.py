"""Reports to look at: one HTML file that opens anywhere, offline."""
