"""The stages generate, score and report; each resumes where it stopped."""
