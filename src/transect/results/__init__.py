"""Results: tables, studies and the primitives of figures and sentences. No study is known here by name."""
