"""Reports: read results, compute statistics, and make tables, figures and the HTML page."""
