"""The command line: ``hf-vipriors JOB``, the parser of every job, and how a job ends."""
