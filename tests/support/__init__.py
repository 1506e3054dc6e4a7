"""What several tests share: clients, servers, and objects made by code. No test is in here."""
