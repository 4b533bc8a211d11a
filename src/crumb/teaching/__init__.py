"""From files to answers: learn a folder, teach one thing more, ask about a clip."""
