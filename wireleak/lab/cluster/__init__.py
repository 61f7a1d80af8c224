"""Run a study's captures and attacks as tasks on a Ray cluster; Ray schedules, retries and moves files."""
