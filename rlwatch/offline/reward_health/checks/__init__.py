"""The checks, one a file: `NAME`, `NEEDS` (roles without which it is not evaluated) and `check(case)`."""
