from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("documents", "0003_category_index")]

    operations = [
        migrations.RenameField("document", "owner_email", "author_email"),
    ]
