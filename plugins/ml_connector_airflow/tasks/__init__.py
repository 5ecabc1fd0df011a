"""What each task of a DAG does: open what it needs, run, book its calls, close."""
