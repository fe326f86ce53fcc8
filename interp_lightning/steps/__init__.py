"""How two players take a step."""
