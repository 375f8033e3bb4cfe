"""What is wrong or odd about annotated images, before anything is learnt from them."""
