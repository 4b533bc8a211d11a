"""Reports: results read back, statistics, tables, figures and the page."""
