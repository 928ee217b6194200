"""What was published beside what was measured: tables, charts, verdicts."""
