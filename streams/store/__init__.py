"""The working copy of a task's state: one contract, kept in Redis or in memory."""
