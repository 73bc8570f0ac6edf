"""Reports for people and monitoring: HTML pages, the recovery kit, JUnit, Prometheus."""
