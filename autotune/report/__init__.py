"""Pages of one HTML file each: a forward step on one or many devices, and what a tuning session did."""
