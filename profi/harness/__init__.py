"""The loops over the stages: generate, score, report; each resumes where it was stopped."""
