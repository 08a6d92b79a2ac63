"""A user model of a project's own."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.db import models


class People(BaseUserManager["Person"]):
    """Makes them."""

    def create_superuser(self, email: str, **values: Any) -> Person:
        person = self.model(email=email, is_superuser=True, is_staff=True, **values)
        person.set_unusable_password()
        person.save(using=self._db)
        return person


class Person(AbstractBaseUser, PermissionsMixin):
    """Has neither `username` nor an integer key."""

    person_id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    email = models.EmailField(unique=True)
    is_staff = models.BooleanField(default=False)

    objects: ClassVar[People] = People()

    USERNAME_FIELD = "email"

    def __str__(self) -> str:
        return f"<{self.email}>"
