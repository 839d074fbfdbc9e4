"""What users write their jobs with: tasks, requests, the client, and what an attempt may say of itself."""
