"""What is measured of a series before anything is trained: seasons, the data card, linear forecasts."""
