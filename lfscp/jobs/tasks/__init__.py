"""What each kind of job does, without storing the job and without the balancer."""
