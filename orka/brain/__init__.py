"""What runs have learned: skills (how something is done) and episodes (what happened), kept in Redis and found again."""
