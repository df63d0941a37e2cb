"""A suite: many runs, exports, evaluations and one report, planned from one file and run as jobs.

It types the commands that a person would type and reads the files that they leave; it imports none
of the stages.
"""
