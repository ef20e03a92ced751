"""From one subject to many: the pipeline, BIDS names, cohorts."""
