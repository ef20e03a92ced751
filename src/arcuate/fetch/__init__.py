"""Downloads: public scans and network weights, only ever when they are asked for."""
