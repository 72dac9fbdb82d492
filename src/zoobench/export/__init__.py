"""What comes after the answer: a model that was judged, as a folder that anybody can use.

README.md            the model card: what it is, how good, whose, how it was checked
predict.py           predicts for files with torch and the model's own library alone
predict.json         classes, preprocessing, and how the library builds the model
model.safetensors    the backbone, trained further where it was fine-tuned
head.safetensors     the head on its features
config.json, tokenizer.json, preprocessor_config.json    of models of transformers
"""
