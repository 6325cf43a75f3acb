"""A seeded population of borrowers whose events look like a lender's, and what is true of each of them."""
