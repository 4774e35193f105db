"""Diffusion: schedules, the process, samplers, and denoisers whose every answer is exact."""
