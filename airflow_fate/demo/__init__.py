"""What does it bring, on a laptop? A real Airflow and a real fleet, started, compared under two policies, and stopped."""
