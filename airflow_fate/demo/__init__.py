"""What does it bring, on a laptop? A real Airflow and a real fleet, under two policies, side by side."""
