"""What can be chosen, as frozen tables: optimizer families, schedules, training options. No torch, no study."""
