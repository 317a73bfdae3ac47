"""The compiled packet path; private, installed as tunnel._fastpath."""
