"""unfooled: which interpreters stay honest when the model is made to lie?"""
