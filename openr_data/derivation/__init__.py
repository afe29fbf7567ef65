"""New labels from stored evidence: no policy is called here."""
