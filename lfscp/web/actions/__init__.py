"""What the pages, the API and the messages of dtools do: one function for all of them."""
