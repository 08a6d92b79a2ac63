"""Empty, until a page says what is answered."""

urlpatterns = []
