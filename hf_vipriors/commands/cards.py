def write_teacher_card(*a, **k): pass
def write_student_card(*a, **k): pass
def add_rows(*a, **k): pass
