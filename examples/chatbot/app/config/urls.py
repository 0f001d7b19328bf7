from django.urls import path

from apps.documents import views
from config.health import api_health, health

urlpatterns = [
    path("health", health),
    path("api/health", api_health),
    path("api/documents", views.document_list),
    path("api/documents/<int:document_id>", views.document_detail),
]
handler404 = "config.health.not_found"
handler500 = "config.health.server_error"
