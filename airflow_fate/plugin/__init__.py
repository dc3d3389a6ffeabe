"""What can be seen in Airflow's own pages? The fleet, the receipt of each placement, the placements of a run."""
