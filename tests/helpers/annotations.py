"""Annotation records in SEED-Bench-R1's layout."""

BASE = {
    "sample_id": 115,
    "video_source": "EpicKitchens",
    "video_id": "P01_13",
    "task_goal": "store cereal",
    "question": "What should I do next in order to store cereal?",
    "answer": "close cupboard",
    "task_start_frame": 3,
    "current_observation_frame": 760,
    "task_progress_metadata": [
        {"narration_text": "open cupboard", "start_frame": 3, "stop_frame": 40},
        {"narration_text": "put cereal", "start_frame": 50, "stop_frame": 90},
    ],
    "video_basename": "115.mp4",
    "current_observation_basename": "115.png",
}
NEGATIVES = ["open tap", "wash pan", "cut onion", "Close  Cupboard", "open TAP", "dry hands"]
TRAINING = BASE | {"negative_answers": NEGATIVES}
CHOICES = {"choice_a": "open tap", "choice_b": "wash pan", "choice_c": "close cupboard", "choice_d": "cut onion"}
VALIDATION = BASE | CHOICES | {"golden_choice_idx": "C"}
