"""What is asked of a database that has stored much: each question reads what it asks for, not what lies beside."""
