"""Training steps of two players: turns, guard, recording, schedules, several devices."""
