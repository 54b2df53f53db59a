"""The journal: one Redis stream per run that is at once memory for resuming, audit trail and live feed."""
