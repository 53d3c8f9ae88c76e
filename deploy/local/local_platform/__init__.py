"""The whole platform on one machine: stores, services, and a balancer in front of them."""
