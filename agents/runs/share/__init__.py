"""What leaves a run: its policy for other libraries, its figures for trackers, its episodes as a data set."""
